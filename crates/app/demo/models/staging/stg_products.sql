select product_id, name, category, brand, price as list_price
from {{ source('shop', 'products') }}

select
    product_id,
    name as product,
    brand_id,
    category_id,
    merchant_id,
    price,
    stock
from {{ source('shop', 'products') }}

select
    order_id,
    line,
    product_id,
    quantity,
    price,
    amount
from {{ source('shop', 'order_items') }}

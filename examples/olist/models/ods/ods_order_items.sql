select
    order_id,
    order_item_id as item_id,
    product_id,
    seller_id,
    shipping_limit_date as ship_before,
    price,
    freight_value as freight
from {{ source('olist', 'order_items') }}

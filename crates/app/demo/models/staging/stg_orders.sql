-- An order counts as revenue unless it was cancelled or refunded.
select
    order_id,
    customer_id,
    status,
    status in ('cancelled', 'refunded') as is_void,
    cast(placed_at as date) as day,
    date_trunc('minute', placed_at) as minute,
    placed_at,
    paid_at,
    shipped_at,
    delivered_at,
    closed_at,
    total
from {{ source('shop', 'orders') }}

select
    order_id,
    user_id,
    channel,
    status,
    placed_at,
    cast(placed_at as date) as day,
    paid_at,
    shipped_at,
    delivered_at,
    closed_at,
    goods,
    freight,
    discount,
    total,
    paid,
    refunded,
    paid > 0 and refunded >= paid as is_paid_back
from {{ source('shop', 'orders') }}

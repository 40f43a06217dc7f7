select
    payment_id,
    order_id,
    method,
    amount,
    paid_at,
    cast(paid_at as date) as paid_day
from {{ source('shop', 'payments') }}

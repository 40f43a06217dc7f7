select
    refund_id,
    order_id,
    reason,
    amount,
    refunded_at,
    cast(refunded_at as date) as refund_day
from {{ source('shop', 'refunds') }}

select
    packet_id,
    user_id,
    kind,
    amount,
    status,
    order_id,
    issued_at,
    cast(issued_at as date) as issue_day,
    used_at,
    expires_at
from {{ source('shop', 'red_packets') }}

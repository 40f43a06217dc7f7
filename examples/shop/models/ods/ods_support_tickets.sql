select
    ticket_id,
    user_id,
    order_id,
    topic,
    status,
    opened_at,
    cast(opened_at as date) as opened_day,
    closed_at
from {{ source('shop', 'support_tickets') }}

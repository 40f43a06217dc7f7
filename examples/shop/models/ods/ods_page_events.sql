select
    event_id,
    user_id,
    session_id,
    channel,
    event,
    page,
    icon,
    occurred_at,
    cast(occurred_at as date) as day
from {{ source('shop', 'page_events') }}

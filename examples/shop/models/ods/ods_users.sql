select
    user_id,
    name,
    city,
    origin,
    registered_at,
    cast(registered_at as date) as registered_day
from {{ source('shop', 'users') }}

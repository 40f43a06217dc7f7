select order_id, user_id, status, placed_at, cast(placed_at as date) as day, total, paid > 0 as is_paid
from {{ source('shop', 'orders') }}

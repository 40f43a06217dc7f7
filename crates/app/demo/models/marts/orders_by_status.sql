select
    status,
    count(*) as orders,
    sum(total) as amount,
    min(placed_at) as oldest,
    max(placed_at) as newest
from {{ ref('stg_orders') }}
group by status

select
    minute,
    count(*) as orders,
    coalesce(sum(total) filter (where not is_void), cast(0 as decimal(12, 2))) as revenue
from {{ ref('stg_orders') }}
group by minute

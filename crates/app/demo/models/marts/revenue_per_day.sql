select
    day,
    count(*) as orders,
    count(distinct customer_id) as buyers,
    count(*) filter (where is_void) as voided,
    coalesce(sum(total) filter (where not is_void), cast(0 as decimal(12, 2))) as revenue,
    cast(avg(total) as decimal(12, 2)) as average_order,
    max(total) as largest_order
from {{ ref('stg_orders') }}
group by day

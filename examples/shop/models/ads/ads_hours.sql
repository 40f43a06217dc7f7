-- The newest hours of the shop's time in which something was ordered.
with hours as (
    select date_trunc('hour', placed_at) as hour, count(*) as orders, sum(total) as gmv
    from {{ ref('ods_orders') }}
    group by date_trunc('hour', placed_at)
)

select hour, orders, gmv
from hours
order by hour desc
limit {{ var('hours_kept') }}

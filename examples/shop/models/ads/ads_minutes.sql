-- The newest minutes of the shop's time in which something was ordered.
with minutes as (
    select date_trunc('minute', placed_at) as minute, count(*) as orders, sum(total) as gmv
    from {{ ref('ods_orders') }}
    group by date_trunc('minute', placed_at)
)

select minute, orders, gmv
from minutes
order by minute desc
limit {{ var('minutes_kept') }}

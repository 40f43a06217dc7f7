-- The shop's day, by the day of the order. A refund or a correction changes that day, however long ago it was.
select
    day,
    count(*) as orders,
    count(distinct user_id) as buyers,
    count(*) filter (where paid > 0) as paid_orders,
    count(*) filter (where status = 'cancelled') as cancelled,
    sum(total) as gmv,
    sum(paid) as paid,
    sum(refunded) as refunded,
    sum(discount) as discount,
    cast(avg(total) as decimal(12, 2)) as average_order
from {{ ref('ods_orders') }}
group by day

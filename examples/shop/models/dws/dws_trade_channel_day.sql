select
    day,
    channel,
    count(*) as orders,
    count(distinct user_id) as buyers,
    sum(total) as gmv,
    sum(paid) as paid,
    sum(refunded) as refunded
from {{ ref('ods_orders') }}
group by day, channel

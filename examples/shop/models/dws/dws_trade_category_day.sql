-- The shop's day by categories. Amounts are of goods, without freight and red packets.
select
    day,
    main_category,
    count(distinct order_id) as orders,
    count(distinct user_id) as buyers,
    sum(quantity) as pieces,
    sum(amount) as gmv,
    coalesce(sum(amount) filter (where is_paid_back), cast(0 as decimal(12, 2))) as refunded
from {{ ref('dwd_order_items') }}
group by day, main_category

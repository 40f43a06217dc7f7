-- What a person has been worth so far, over all their orders that were not cancelled.
select
    customer_unique_id,
    orders,
    delivered,
    items,
    spent,
    order_max,
    first_purchase_at,
    last_purchase_at,
    cast(date_trunc('month', first_purchase_at) as date) as cohort_month,
    case when orders > 1 then 'returning' else 'new' end as kind,
    case
        when spent >= 1000 then 'gold'
        when spent >= 300 then 'silver'
        else 'bronze'
    end as band
from (
    select
        customer_unique_id,
        count(*) as orders,
        count(delivered_at) as delivered,
        sum(items) as items,
        sum(paid) as spent,
        max(paid) as order_max,
        min(purchased_at) as first_purchase_at,
        max(purchased_at) as last_purchase_at
    from {{ ref('dwd_orders') }}
    where not is_cancelled
    group by customer_unique_id
) as people

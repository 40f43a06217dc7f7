-- The shop's day, by the day of purchase. A late change of an old order changes that old day.
select
    purchase_day as day,
    count(*) as orders,
    count(distinct customer_unique_id) as buyers,
    count(*) filter (where is_cancelled) as cancelled,
    sum(items) as items,
    sum(goods) as gmv,
    sum(freight) as freight,
    sum(paid) as paid,
    max(paid) as order_max,
    sum(reviews) as reviews,
    {{ share('sum(review_score_sum)', 'sum(reviews)') }} as average_review
from {{ ref('dwd_orders') }}
group by purchase_day

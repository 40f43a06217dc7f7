-- The day by the states that sellers ship from. A review counts once for each item of its order.
select
    purchase_day as day,
    seller_state,
    count(distinct order_id) as orders,
    count(distinct customer_unique_id) as buyers,
    count(distinct seller_id) as sellers,
    count(distinct order_id) filter (where is_cancelled) as cancelled,
    count(*) as items,
    sum(price) as gmv,
    sum(freight) as freight,
    sum(reviews) as reviews,
    {{ share('sum(review_score_sum)', 'sum(reviews)') }} as average_review
from {{ ref('dwd_order_items') }}
group by purchase_day, seller_state

-- How sellers deliver: an order counts once for each seller that had a part in it.
with delivered as (
    select distinct
        seller_id,
        seller_state,
        order_id,
        delivered_at > promised_at as is_late,
        cast(extract(epoch from delivered_at) - extract(epoch from purchased_at) as bigint) as seconds,
        reviews,
        review_score_sum
    from {{ ref('dwd_order_items') }}
    where delivered_at is not null
)

select
    seller_id,
    seller_state,
    count(*) as orders,
    count(*) filter (where is_late) as late,
    {{ share('count(*) filter (where is_late)', 'count(*)') }} as late_share,
    cast(sum(seconds) as bigint) / (3600 * count(*)) as delivery_hours,
    max(seconds) / 3600 as delivery_hours_max,
    {{ share('sum(review_score_sum)', 'sum(reviews)') }} as average_review
from delivered
group by seller_id, seller_state
having count(*) >= {{ var('seller_orders_min') }}

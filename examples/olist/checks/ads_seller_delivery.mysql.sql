-- ads_seller_delivery as MySQL itself answers it.
with delivered as (
    select
        i.seller_id,
        i.order_id,
        max(o.order_delivered_customer_date > o.order_estimated_delivery_date) as is_late,
        max(timestampdiff(second, o.order_purchase_timestamp, o.order_delivered_customer_date)) as seconds
    from order_items i
    join orders o on o.order_id = i.order_id
    where o.order_delivered_customer_date is not null
    group by i.seller_id, i.order_id
),

scores as (
    select order_id, count(*) as reviews, sum(review_score) as score_sum from order_reviews group by order_id
)

select
    d.seller_id,
    s.seller_state,
    count(*) as orders,
    sum(d.is_late),
    cast(cast(sum(d.is_late) as double) / count(*) as decimal(6, 4)),
    sum(d.seconds) div (3600 * count(*)),
    max(d.seconds) div 3600,
    cast(cast(sum(c.score_sum) as double) / nullif(sum(c.reviews), 0) as decimal(6, 4))
from delivered d
join sellers s on s.seller_id = d.seller_id
left join scores c on c.order_id = d.order_id
group by d.seller_id, s.seller_state
having orders >= 5
order by d.seller_id

-- dws_trade_day as MySQL itself answers it.
select
    date(o.order_purchase_timestamp) as day,
    count(*),
    count(distinct c.customer_unique_id),
    sum(o.order_status in ('canceled', 'unavailable')),
    sum(coalesce(i.items, 0)),
    sum(coalesce(i.goods, 0.00)),
    sum(coalesce(i.freight, 0.00)),
    sum(coalesce(p.paid, 0.00)),
    max(coalesce(p.paid, 0.00)),
    sum(coalesce(r.reviews, 0)),
    cast(cast(sum(coalesce(r.score_sum, 0)) as double) / nullif(sum(coalesce(r.reviews, 0)), 0) as decimal(6, 4))
from orders o
join customers c on c.customer_id = o.customer_id
left join (
    select order_id, count(*) as items, sum(price) as goods, sum(freight_value) as freight from order_items group by order_id
) i on i.order_id = o.order_id
left join (select order_id, sum(payment_value) as paid from order_payments group by order_id) p on p.order_id = o.order_id
left join (
    select order_id, count(*) as reviews, sum(review_score) as score_sum from order_reviews group by order_id
) r on r.order_id = o.order_id
group by day
order by day

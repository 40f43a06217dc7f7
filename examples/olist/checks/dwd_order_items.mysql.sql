-- dwd_order_items as MySQL itself answers it.
select
    i.order_id,
    i.order_item_id,
    o.order_status,
    if(o.order_status in ('canceled', 'unavailable'), 't', 'f'),
    date(o.order_purchase_timestamp),
    o.order_purchase_timestamp,
    i.shipping_limit_date,
    o.order_delivered_carrier_date,
    o.order_delivered_customer_date,
    o.order_estimated_delivery_date,
    i.product_id,
    coalesce(p.product_category_name, 'unknown'),
    p.product_weight_g,
    i.seller_id,
    s.seller_city,
    s.seller_state,
    o.customer_id,
    c.customer_unique_id,
    c.customer_city,
    c.customer_state,
    i.price,
    i.freight_value,
    i.price + i.freight_value,
    coalesce((select sum(y.payment_value) from order_payments y where y.order_id = i.order_id), 0.00),
    (
        select coalesce(y.payment_type, 'not_defined') from order_payments y where y.order_id = i.order_id
        order by y.payment_value desc, y.payment_sequential limit 1
    ),
    coalesce(r.reviews, 0),
    coalesce(r.score_sum, 0)
from order_items i
join orders o on o.order_id = i.order_id
join customers c on c.customer_id = o.customer_id
join sellers s on s.seller_id = i.seller_id
left join products p on p.product_id = i.product_id
left join (
    select order_id, count(*) as reviews, sum(review_score) as score_sum from order_reviews group by order_id
) r on r.order_id = i.order_id
order by i.order_id, i.order_item_id

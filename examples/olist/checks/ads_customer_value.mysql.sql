-- ads_customer_value as MySQL itself answers it.
with bought as (
    select
        c.customer_unique_id,
        o.order_purchase_timestamp as at,
        o.order_delivered_customer_date as delivered_at,
        coalesce(i.items, 0) as items,
        coalesce(p.paid, 0.00) as paid
    from orders o
    join customers c on c.customer_id = o.customer_id
    left join (select order_id, count(*) as items from order_items group by order_id) i on i.order_id = o.order_id
    left join (select order_id, sum(payment_value) as paid from order_payments group by order_id) p on p.order_id = o.order_id
    where o.order_status not in ('canceled', 'unavailable')
)

select
    customer_unique_id,
    count(*),
    count(delivered_at),
    sum(items),
    sum(paid),
    max(paid),
    min(at),
    max(at),
    cast(date_format(min(at), '%Y-%m-01') as date),
    if(count(*) > 1, 'returning', 'new'),
    case when sum(paid) >= 1000 then 'gold' when sum(paid) >= 300 then 'silver' else 'bronze' end
from bought
group by customer_unique_id
order by customer_unique_id

-- ads_top_products_day as MySQL itself answers it.
with sold as (
    select
        date(o.order_purchase_timestamp) as day,
        i.product_id,
        coalesce(p.product_category_name, 'unknown') as category,
        count(*) as items,
        sum(i.price) as amount
    from order_items i
    join orders o on o.order_id = i.order_id
    join customers c on c.customer_id = o.customer_id
    join sellers s on s.seller_id = i.seller_id
    left join products p on p.product_id = i.product_id
    where o.order_status not in ('canceled', 'unavailable')
    group by day, i.product_id, category
),

ranked as (
    select sold.*, row_number() over (partition by day order by amount desc, items desc, product_id) as place
    from sold
)

select day, place, product_id, category, items, amount
from ranked
where place <= 10
order by day, place

-- What a customer has been worth so far; one who never bought is not in it.
select
    customer_id,
    name,
    city,
    orders,
    spent,
    first_order_at,
    last_order_at,
    case when spent >= 2000 then 'gold' when spent >= 500 then 'silver' else 'bronze' end as band
from (
    select
        c.customer_id,
        c.name,
        c.city,
        count(*) as orders,
        sum(o.total) as spent,
        min(o.placed_at) as first_order_at,
        max(o.placed_at) as last_order_at
    from {{ ref('stg_customers') }} as c
    inner join {{ ref('stg_orders') }} as o on o.customer_id = c.customer_id
    where not o.is_void
    group by c.customer_id, c.name, c.city
) as customers

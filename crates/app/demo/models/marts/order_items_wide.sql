-- One wide row per item sold: order, product, customer and payment side by side.
select
    i.order_id,
    i.line,
    o.day,
    o.placed_at,
    o.status,
    o.is_void,
    i.product_id,
    p.name as product,
    p.category,
    p.brand,
    i.quantity,
    i.price,
    i.amount,
    o.customer_id,
    c.name as customer,
    c.city,
    y.method,
    y.payment_status
from {{ ref('stg_order_items') }} as i
inner join {{ ref('stg_orders') }} as o on o.order_id = i.order_id
inner join {{ ref('stg_products') }} as p on p.product_id = i.product_id
inner join {{ ref('stg_customers') }} as c on c.customer_id = o.customer_id
left join {{ ref('stg_payments') }} as y on y.order_id = o.order_id

-- Orders that somebody should look at, and why; an order may have several reasons.
select order_id, 'delivered late' as reason, purchase_day, customer_state, paid
from {{ ref('dwd_orders') }}
where delivered_at > promised_at

union all

select o.order_id, 'cancelled after payment' as reason, o.purchase_day, o.customer_state, o.paid
from {{ ref('dwd_orders') }} as o
where o.is_cancelled
    and exists (select 1 from {{ ref('ods_order_payments') }} as p where p.order_id = o.order_id and p.amount > 0)

union all

select o.order_id, 'unhappy customer' as reason, o.purchase_day, o.customer_state, o.paid
from {{ ref('dwd_orders') }} as o
where o.order_id in (select r.order_id from {{ ref('ods_order_reviews') }} as r where r.score <= 2)

union all

select o.order_id, 'without items' as reason, o.purchase_day, o.customer_state, o.paid
from {{ ref('dwd_orders') }} as o
where not exists (select 1 from {{ ref('ods_order_items') }} as i where i.order_id = o.order_id)

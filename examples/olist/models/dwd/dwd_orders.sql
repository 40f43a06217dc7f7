-- One wide row per order: who bought, what it came to, how it was paid and what the customer thought of it.
with items as (
    select
        order_id,
        count(*) as items,
        count(distinct seller_id) as sellers,
        sum(price) as goods,
        sum(freight) as freight
    from {{ ref('ods_order_items') }}
    group by order_id
),

payments as (
    select
        order_id,
        count(*) as payments,
        max(installments) as installments_max,
        sum(amount) as paid,
        sum(amount) filter (where payment_type = 'voucher') as paid_by_voucher
    from {{ ref('ods_order_payments') }}
    group by order_id
),

-- The payment that carried most of the order; the earlier one where two are equal.
main_payment as (
    select order_id, payment_type
    from (
        select
            order_id,
            payment_type,
            row_number() over (partition by order_id order by amount desc, payment_no) as rn
        from {{ ref('ods_order_payments') }}
    ) as ranked
    where rn <= 1
),

reviews as (
    select
        order_id,
        count(*) as reviews,
        sum(score) as review_score_sum
    from {{ ref('ods_order_reviews') }}
    group by order_id
)

select
    o.order_id,
    o.order_status,
    o.is_cancelled,
    o.purchase_day,
    o.purchased_at,
    o.approved_at,
    o.shipped_at,
    o.delivered_at,
    o.promised_at,
    o.customer_id,
    c.customer_unique_id,
    c.customer_city,
    c.customer_state,
    coalesce(i.items, 0) as items,
    coalesce(i.sellers, 0) as sellers,
    coalesce(i.goods, cast(0 as decimal(10, 2))) as goods,
    coalesce(i.freight, cast(0 as decimal(10, 2))) as freight,
    coalesce(p.payments, 0) as payments,
    p.installments_max,
    coalesce(p.paid, cast(0 as decimal(10, 2))) as paid,
    coalesce(p.paid_by_voucher, cast(0 as decimal(10, 2))) as paid_by_voucher,
    m.payment_type,
    coalesce(r.reviews, 0) as reviews,
    coalesce(r.review_score_sum, 0) as review_score_sum
from {{ ref('ods_orders') }} as o
inner join {{ ref('ods_customers') }} as c on c.customer_id = o.customer_id
left join items as i on i.order_id = o.order_id
left join payments as p on p.order_id = o.order_id
left join main_payment as m on m.order_id = o.order_id
left join reviews as r on r.order_id = o.order_id

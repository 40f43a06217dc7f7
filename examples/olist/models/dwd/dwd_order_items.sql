-- One wide row per item sold: order, item, product, seller, customer and payment side by side.
select
    i.order_id,
    i.item_id,
    o.order_status,
    o.is_cancelled,
    o.purchase_day,
    o.purchased_at,
    i.ship_before,
    o.shipped_at,
    o.delivered_at,
    o.promised_at,
    i.product_id,
    coalesce(p.category, 'unknown') as category,
    p.weight_g,
    i.seller_id,
    s.seller_city,
    s.seller_state,
    o.customer_id,
    o.customer_unique_id,
    o.customer_city,
    o.customer_state,
    i.price,
    i.freight,
    i.price + i.freight as total,
    o.paid as order_paid,
    o.payment_type,
    o.reviews,
    o.review_score_sum
from {{ ref('ods_order_items') }} as i
inner join {{ ref('dwd_orders') }} as o on o.order_id = i.order_id
inner join {{ ref('ods_sellers') }} as s on s.seller_id = i.seller_id
left join {{ ref('ods_products') }} as p on p.product_id = i.product_id

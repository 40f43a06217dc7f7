-- One wide row per line of an order: order, product, brand, category and merchant side by side.
select
    i.order_id,
    i.line,
    o.day,
    o.channel,
    o.user_id,
    o.status,
    o.status = 'cancelled' as is_cancelled,
    o.is_paid_back,
    i.product_id,
    p.product,
    b.brand,
    c.category,
    c.main_category,
    m.merchant_id,
    m.merchant,
    i.quantity,
    i.price,
    i.amount
from {{ ref('ods_order_items') }} as i
inner join {{ ref('ods_orders') }} as o on o.order_id = i.order_id
inner join {{ ref('ods_products') }} as p on p.product_id = i.product_id
inner join {{ ref('ods_brands') }} as b on b.brand_id = p.brand_id
inner join {{ ref('ods_categories') }} as c on c.category_id = p.category_id
inner join {{ ref('ods_merchants') }} as m on m.merchant_id = p.merchant_id

-- Products that nobody has bought and kept so far.
select p.product_id, p.name, p.category, p.list_price
from {{ ref('stg_products') }} as p
where not exists (
    select 1
    from {{ ref('order_items_wide') }} as i
    where i.product_id = p.product_id and not i.is_void
)

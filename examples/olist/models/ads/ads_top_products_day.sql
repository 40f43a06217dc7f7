-- The best sold products of each day, by money, then by pieces, then by id.
with sold as (
    select
        purchase_day as day,
        product_id,
        category,
        count(*) as items,
        sum(price) as amount
    from {{ ref('dwd_order_items') }}
    where not is_cancelled
    group by purchase_day, product_id, category
)

select day, cast(place as bigint) as place, product_id, category, items, amount
from (
    select
        day,
        product_id,
        category,
        items,
        amount,
        row_number() over (partition by day order by amount desc, items desc, product_id) as place
    from sold
) as ranked
where place <= {{ var('top_products') }}

-- The best sold products of each day, by money, then by number.
with sold as (
    select day, product_id, product, category, sum(quantity) as pieces, sum(amount) as amount
    from {{ ref('order_items_wide') }}
    where not is_void
    group by day, product_id, product, category
)

select day, cast(place as bigint) as place, product_id, product, category, pieces, amount
from (
    select
        day,
        product_id,
        product,
        category,
        pieces,
        amount,
        row_number() over (partition by day order by amount desc, product_id) as place
    from sold
) as ranked
where place <= {{ var('top_products') }}

-- The best sold products of each day, by money, then by number.
with sold as (
    select day, product_id, product, brand, main_category, sum(quantity) as pieces, sum(amount) as amount
    from {{ ref('dwd_order_items') }}
    where not is_cancelled
    group by day, product_id, product, brand, main_category
)

select day, cast(place as bigint) as place, product_id, product, brand, main_category, pieces, amount
from (
    select
        day,
        product_id,
        product,
        brand,
        main_category,
        pieces,
        amount,
        row_number() over (partition by day order by amount desc, product_id) as place
    from sold
) as ranked
where place <= {{ var('top_products') }}

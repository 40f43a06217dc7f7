-- The shop's day by categories. Amounts are of goods, without freight and red packets.
select
    day,
    main_category,
    {{ goods_measures() }}
from {{ ref('dwd_order_items') }}
group by day, main_category

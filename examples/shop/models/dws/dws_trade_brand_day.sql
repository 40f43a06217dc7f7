-- The shop's day by brands. Amounts are of goods, without freight and red packets.
select
    day,
    brand,
    {{ goods_measures() }}
from {{ ref('dwd_order_items') }}
group by day, brand

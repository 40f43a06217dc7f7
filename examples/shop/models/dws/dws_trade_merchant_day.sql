-- The shop's day by merchants. Amounts are of goods, without freight and red packets.
select
    day,
    merchant_id,
    merchant,
    {{ goods_measures() }}
from {{ ref('dwd_order_items') }}
group by day, merchant_id, merchant

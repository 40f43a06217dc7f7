select
    day,
    category,
    count(distinct order_id) as orders,
    sum(quantity) as pieces,
    sum(amount) as amount
from {{ ref('order_items_wide') }}
where not is_void
group by day, category

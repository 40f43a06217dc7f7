-- Sellers that have sold nothing yet, or only what was cancelled.
select s.seller_id, s.seller_city, s.seller_state
from {{ ref('ods_sellers') }} as s
where not exists (
    select 1
    from {{ ref('dwd_order_items') }} as i
    where i.seller_id = s.seller_id and not i.is_cancelled
)

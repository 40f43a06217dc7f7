-- How carriers deliver, over all parcels.
select
    carrier,
    count(*) as parcels,
    count(delivered_at) as delivered,
    count(*) filter (where is_late) as late
from {{ ref('ods_shipments') }}
group by carrier

-- Refunds by the day on which the money went back.
select
    refund_day as day,
    count(*) as refunds,
    sum(amount) as amount,
    count(*) filter (where reason = 'correction') as corrections
from {{ ref('ods_refunds') }}
group by refund_day

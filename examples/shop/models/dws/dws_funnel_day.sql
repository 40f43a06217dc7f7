-- From the home page to the payment: how many people came to each step on a day.
select
    day,
    page,
    case page when 'home' then 1 when 'detail' then 2 when 'confirm' then 3 else 4 end as step,
    count(distinct user_id) as users,
    count(*) as views
from {{ ref('ods_page_events') }}
where event = 'view'
group by day, page

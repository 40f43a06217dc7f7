-- Clicks on the navigation icons of the home page.
select day, icon, count(*) as clicks, count(distinct user_id) as users
from {{ ref('ods_page_events') }}
where event = 'click'
group by day, icon

-- Who was there on which day: one row per user and day, however much they looked at.
select distinct day, user_id
from {{ ref('ods_page_events') }}

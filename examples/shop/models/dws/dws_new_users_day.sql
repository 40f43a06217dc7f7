-- New users by where they come from.
select registered_day as day, origin, count(*) as new_users
from {{ ref('ods_users') }}
group by registered_day, origin

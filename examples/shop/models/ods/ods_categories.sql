-- Every category with the one above it; a category above is its own.
select
    c.category_id,
    c.name as category,
    coalesce(p.name, c.name) as main_category
from {{ source('shop', 'categories') }} as c
left join {{ source('shop', 'categories') }} as p on p.category_id = c.parent_id

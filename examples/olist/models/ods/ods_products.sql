select
    product_id,
    coalesce(product_category_name, 'unknown') as category,
    product_photos_qty as photos,
    product_weight_g as weight_g,
    product_length_cm * product_height_cm * product_width_cm as volume_cm3
from {{ source('olist', 'products') }}

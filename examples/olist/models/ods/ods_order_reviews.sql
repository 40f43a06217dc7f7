select
    review_id,
    order_id,
    review_score as score,
    review_comment_message is not null as has_comment,
    review_creation_date as created_at,
    review_answer_timestamp as answered_at
from {{ source('olist', 'order_reviews') }}

"""A page in the browser on which a user segments a video: `vseg demo`.

`clip` holds the video, `outline` makes masks from clicks and boxes, `prompts` and `work` have what
one user says and what comes of it, `downloads` writes files; none of these knows the page. `page`
and `handlers` build it with gradio.
"""

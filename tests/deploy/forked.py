"""What is served by a uWSGI that loads it once and forks: the application has answered requests before that."""

from flaskcompat import create_app

application = create_app()


def warm_up() -> None:
    body = {"model": "gated", "stream": True, "messages": [{"role": "user", "content": "127.0.0.1:1"}]}
    response = application.test_client().post(
        "/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-alice"}
    )
    assert response.status_code == 500  # as there is nobody there to say a word


warm_up()

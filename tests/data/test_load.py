import pytest

from cifar_jax import UserError, load_data


def test_an_option_of_another_data_set_is_refused():
    message = "--labels=coarse is not an option of --dataset=digits; leave it out"
    with pytest.raises(UserError, match=message):
        load_data("digits", labels="coarse")
